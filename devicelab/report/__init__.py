"""Reports: a campaign's findings and figures as one self-contained page, as JUnit XML, as Markdown for a chat."""

from devicelab.report.build import build_report, conclude, write_page
from devicelab.report.page import render
from devicelab.report.summary import write_junit, write_markdown

__all__ = ["build_report", "conclude", "render", "write_junit", "write_markdown", "write_page"]
