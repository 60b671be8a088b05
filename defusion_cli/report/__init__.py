"""One web page that shows what a run did: pictures to compare, a table to sort, nothing loaded from elsewhere."""

from defusion_cli.report.page import INLINE_BYTES, Column, Entry, Page, write_page

__all__ = ["INLINE_BYTES", "Column", "Entry", "Page", "write_page"]
