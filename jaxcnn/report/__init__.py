"""What a finished run leaves behind for people: its curves, its layers and the task's sections, on one page."""

from jaxcnn.report.model_summary import as_text, summarize
from jaxcnn.report.page import network_section, write_report
from jaxcnn.report.quantity import Quantity
from jaxcnn.report.table import results_table

__all__ = ["Quantity", "as_text", "network_section", "results_table", "summarize", "write_report"]
