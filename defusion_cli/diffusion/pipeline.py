"""`DefusionPipeline`: U-Net, instruction tokenizer and noise schedule, on disk in diffusers' layout.

photo, damaged = x_LQ;  instruction v = D(g) − g  →  tokens  →  ŷ₀ = damage  →  x̂_HQ = x_LQ − ŷ₀
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor, nn

from defusion_cli.diffusion.backbone import tokens_of_each
from defusion_cli.diffusion.refinement import UNCHANGED, Refinement
from defusion_cli.diffusion.schedule import precondition
from defusion_cli.grain import read_grain
from defusion_cli.ground.instruction import named_residuals
from defusion_cli.plugins import installed_plugins, physical_order
from defusion_cli.plugins.compose import Plugins
from defusion_cli.thumbnail import THUMBNAIL_PX

_EMBEDDED = Path(__file__).resolve().parent.parent / "weights" / "default"


_OUTPUT_TYPES = ("pil", "np", "pt")
_MOST_STEPS = 1000


def make_thumbnail(pixels: Tensor, side: int = THUMBNAIL_PX) -> Tensor:
    """The whole photograph at a glance: N×3×H×W to N×3×side×side, by area averaging (bilinear where it grows)."""
    mode = "area" if min(pixels.shape[2:]) >= side else "bilinear"
    return F.interpolate(pixels, (side, side), mode=mode)


class DefusionPipeline(DiffusionPipeline):
    """Removes from a photograph the damage that an instruction shows.

    Parameters
    ----------
    unet
        Backbone with the forward signature of ``UNet2DConditionModel``, six channels in, three out.
    tokenizer
        Instruction tokenizer: ``encode_tokens`` and ``embed``.
    scheduler
        See `defusion_cli.diffusion.schedule.make_scheduler`.
    damage_scale
        Factor that brings y₀, in the network's [−1, 1] units, to about unit deviation for the forward process.
    refinement, faint_refinement
        By name of a degradation: how much, 0 … 2, counts what the backbone adds to its first estimate of the whole
        photograph, in a single step; at 0 in any number of steps. Measured on photographs it was not trained on; 1
        for other names. The second is for what is faint, see `Refinement`; as the first for other names.
    together
        Names of degradations that the backbone removes better in one go than one after another: sets that it was
        taught as such (`SynthesisConfig.familiar_mixtures`).

    Examples
    --------
    >>> from PIL import Image
    >>> from defusion_cli import DefusionPipeline
    >>> pipeline = DefusionPipeline.from_pretrained("default").to("cpu")
    >>> pipeline(Image.new("RGB", (64, 48), "grey"), "rain").images[0].size
    (64, 48)
    """

    model_cpu_offload_seq = "tokenizer->unet"

    find_recogniser: Callable[[], Any] | None = None
    """Loads the model's `DegradationRecogniser`, if it has one; set by `defusion_cli.restore.model.load_pipeline`."""

    def __init__(
        self,
        unet: nn.Module,
        tokenizer: nn.Module,
        scheduler: DDIMScheduler,
        damage_scale: float = 3.0,
        refinement: Mapping[str, float] | None = None,
        faint_refinement: Mapping[str, float] | None = None,
        together: Sequence[Sequence[str]] | None = None,  # diffusers complains of a bare Sequence
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, tokenizer=tokenizer, scheduler=scheduler)
        factors = {"refinement": dict(refinement or {}), "faint_refinement": dict(faint_refinement or {})}
        self.register_to_config(damage_scale=damage_scale, together=[list(ids) for ids in together or ()], **factors)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path = "default", **options: Any) -> Any:
        """The model ``"default"`` of this package, or any that `save_pretrained` wrote: a folder or a hub id.

        This is diffusers' own loader, with its options. ``defusion restore --model`` is more careful with folders
        of strangers (`defusion_cli.restore.model.load_pipeline`).
        """
        import defusion_cli.tokenizer.model  # noqa: F401  (diffusers finds classes of imported modules only)

        default = pretrained_model_name_or_path == "default"
        return super().from_pretrained(_EMBEDDED if default else pretrained_model_name_or_path, **options)

    @torch.no_grad()
    def encode_instruction(self, residual: NDArray[np.float32] | Tensor) -> Tensor:
        """Tokens (1×196×256) of a visual instruction.

        Parameters
        ----------
        residual
            D(g) − g in [−1, 1]: H×W×3 array, or N×3×H×W tensor; 224×224 for the models we ship.
        """
        if isinstance(residual, np.ndarray):
            residual = torch.from_numpy(np.ascontiguousarray(residual.transpose(2, 0, 1)))[None]
        tokenizer: Any = self.tokenizer
        return tokenizer.embed(tokenizer.encode_tokens(residual.to(self.device, tokenizer.dtype)))

    def encode_names(self, ids: Sequence[str], plugins: Plugins, grounds: int | None = None) -> Tensor:
        """Tokens (1×(196·grounds)×256) that stand for the names of degradations, which may come in any order.

        Parameters
        ----------
        grounds
            As for `defusion_cli.ground.named_residuals`.
        """
        residuals = named_residuals(physical_order(sorted(set(ids)), plugins), plugins, grounds)
        return self.encode_residuals(residuals)

    def encode_residuals(self, residuals: Iterable[NDArray[np.float32]]) -> Tensor:
        """Tokens (1×(196·N)×256) of one instruction that consists of N residuals."""
        return torch.cat([self.encode_instruction(residual) for residual in residuals], dim=1)

    @torch.no_grad()
    def damage(
        self,
        lq: Tensor,
        tokens: Tensor,
        noise: Tensor,
        steps: int = 1,
        thumbnail: Tensor | None = None,
        on_step: Callable[[int], None] | None = None,
        boxes: Tensor | None = None,
        grain: Tensor | None = None,
        refinement: Refinement = UNCHANGED,
    ) -> Tensor:
        """The estimated damage ŷ₀ (N×3×H×W, in units of the [0, 1] picture): subtract it from `lq`.

        Parameters
        ----------
        lq
            Damaged pictures or tiles, N×3×H×W in [0, 1]; any H and W.
        tokens
            Instruction tokens of the photographs, V×K×D. `lq` are N/V tiles of each, one after the other.
        noise
            Unit normal start y_T, like `lq`.
        steps
            Denoising steps, 1 … 1000. One is the least-squares estimate; more trade PSNR for perceptual quality.
        thumbnail
            `make_thumbnail` of the whole photographs, V×3×256×256 in [0, 1]; None if `lq` is the whole.
        on_step
            Called with the number of each finished step.
        boxes
            Where the tiles lie in their photographs: left, top, right, bottom in fractions of the sides, N×4; None
            if `lq` is the whole.
        grain
            `defusion_cli.grain.read_grain` of the whole photographs, V×F; None if `lq` is the whole.
        refinement
            How much counts, in a single step, what the backbone adds to its first estimate, if it makes one. If it is
            nothing, the first estimate is the result, whatever `steps` says.
        """
        x = 2 * lq - 1
        view = 2 * (make_thumbnail(lq) if thumbnail is None else thumbnail) - 1
        n, scale = len(lq), float(self.config["damage_scale"])
        conditions: dict[str, Any] = {"thumbnail": view}
        if refinement.nothing and self.estimates_first:
            steps = 1  # the first estimate is the same at every step
        if refinement != UNCHANGED and steps == 1:
            conditions["refinement"] = refinement
        if self.sees_grain:
            conditions["grain"] = read_grain(lq) if grain is None else grain
        if boxes is not None:
            conditions["box"] = boxes
        tokens = tokens_of_each(self.unet, tokens, n)
        scheduler = self._planned(steps)
        y: Tensor = noise
        for index, t in enumerate(scheduler.timesteps.to(lq.device)):
            seen = precondition(scheduler, y, t.expand(n))
            estimate = self._predict(torch.cat([seen, x], dim=1), t, tokens, conditions)
            # The scheduler divides by σ_t²; the last step returns the estimate itself.
            last = index == len(scheduler.timesteps) - 1
            y = estimate * scale if last else scheduler.step(estimate * scale, int(t), y, eta=0.0).prev_sample
            if on_step:
                on_step(index + 1)
        return y / (2 * scale)

    def refinement_of(self, name: str) -> Refinement:
        """What `damage` is to be told for a degradation; `UNCHANGED` if the backbone makes no first estimate."""
        if not self.estimates_first:
            return UNCHANGED
        strong = float(self.config["refinement"].get(name, 1.0))
        return Refinement(strong, float(self.config["faint_refinement"].get(name, strong)))

    @property
    def estimates_first(self) -> bool:
        """Whether the backbone first estimates veil or blur, and adds to that."""
        return self._has_any("coarse", "sharpen")

    @property
    def sees_grain(self) -> bool:
        """Whether the backbone is told what the fine detail of the whole photograph says."""
        return self._has_any("grain", "coarse", "sharpen")

    def _has_any(self, *parts: str) -> bool:
        unet: Any = self.unet
        return any(unet.config.get(part) for part in parts)

    def _planned(self, steps: int) -> DDIMScheduler:
        """A scheduler for so many steps: a fresh one, since tiles may run in threads.

        But for one step, which never asks it for more than t = T, the same again: making one takes 3 ms.
        """
        kept: DDIMScheduler | None = self.__dict__.get("_for_one_step")
        if steps > 1 or kept is None or kept.config != self.scheduler.config:
            kept = type(self.scheduler).from_config(self.scheduler.config)
            kept.set_timesteps(steps)
            if steps == 1:
                self.__dict__["_for_one_step"] = kept
        return kept

    def _predict(self, sample: Tensor, timestep: Tensor, tokens: Tensor, conditions: dict[str, Any]) -> Tensor:
        unet: Any = self.unet
        sample = sample.to(memory_format=torch.channels_last)
        with half_precision(sample.device.type):
            out = unet(sample, timestep, tokens, added_cond_kwargs=conditions, return_dict=False)[0]
        return out.float()

    @torch.no_grad()
    def __call__(
        self,
        image: PillowImage.Image | NDArray[np.float32] | Tensor,
        instruction: str | Sequence[str] | NDArray[np.float32] | Tensor,
        num_inference_steps: int = 1,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Restore one picture that fits in memory as a whole (folders and large files: `defusion restore`).

        Parameters
        ----------
        image
            PIL picture, H×W×3 array in [0, 1], or N×3×H×W tensor in [0, 1].
        instruction
            What to remove: the id of a degradation, or several; a residual D(g) − g in [−1, 1]; or ready tokens
            (N×K×D).
        num_inference_steps
            See `damage`.
        generator
            Source of y_T, for repeatable results.
        output_type
            ``"pil"``, ``"np"`` (N×H×W×3) or ``"pt"`` (N×3×H×W).

        Raises
        ------
        ValueError
            If the image has another shape, the steps are out of range, or there is no such output type.
        """
        if output_type not in _OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; accepted are {', '.join(_OUTPUT_TYPES)}.")
        if not isinstance(num_inference_steps, Integral) or not 1 <= num_inference_steps <= _MOST_STEPS:
            raise ValueError(f"num_inference_steps is {num_inference_steps!r}; accepted are 1 to {_MOST_STEPS}.")
        lq = _as_batch(image).to(self.device, torch.float32)
        tokens = self._tokens(instruction)
        noise = torch.randn(lq.shape, generator=generator).to(lq.device)
        refinement = self.refinement_of(instruction) if isinstance(instruction, str) else UNCHANGED
        damage = self.damage(lq, tokens.to(lq.device), noise, int(num_inference_steps), refinement=refinement)
        restored: Any = (lq - damage).clamp(0, 1).cpu()
        if output_type != "pt":
            restored = restored.permute(0, 2, 3, 1).numpy()
        if output_type == "pil":
            restored = [PillowImage.fromarray((picture * 255).round().astype(np.uint8)) for picture in restored]
        return ImagePipelineOutput(images=restored) if return_dict else (restored,)

    def _tokens(self, instruction: str | Sequence[str] | NDArray[np.float32] | Tensor) -> Tensor:
        if isinstance(instruction, Tensor) and instruction.ndim == 3:
            return instruction
        if isinstance(instruction, (Tensor, np.ndarray)):
            return self.encode_instruction(instruction)
        return self.encode_names([instruction] if isinstance(instruction, str) else instruction, installed_plugins())


def _as_batch(image: PillowImage.Image | NDArray[np.float32] | Tensor) -> Tensor:
    """A picture as N×3×H×W; ValueError if it is none."""
    if isinstance(image, PillowImage.Image):
        image = np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype.kind != "f" or image.size == 0:
            found = f"{image.dtype} {image.shape}"
            raise ValueError(f"The image is an array {found}; accepted is floating point, H×W×3, RGB in [0, 1].")
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != 3 or image.numel() == 0:
        found = f"a tensor {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"The image is {found}; accepted is a PIL image, an array H×W×3 or a tensor N×3×H×W.")
    return image


def use_bfloat16(device_type: str) -> bool:
    """True where bfloat16 convolutions are faster than float32: AVX-512 BF16 or AMX CPUs, and recent GPUs."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def half_precision(device_type: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where that is faster, else nothing."""
    return torch.autocast(device_type, torch.bfloat16) if use_bfloat16(device_type) else nullcontext()
