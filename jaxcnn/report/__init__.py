"""What a finished run leaves behind for people: its curves, its mistakes, its layers, on one page."""

from jaxcnn.report.model_summary import as_text, summarize
from jaxcnn.report.page import write_report
from jaxcnn.report.table import results_table

__all__ = ["as_text", "results_table", "summarize", "write_report"]
