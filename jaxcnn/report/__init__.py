"""The report page of a finished run, the page about a data set, and tables in plain text."""

from jaxcnn.report.model_summary import as_text, summarize
from jaxcnn.report.page import network_section, write_report
from jaxcnn.report.quantity import Quantity
from jaxcnn.report.table import results_table

__all__ = ["Quantity", "as_text", "network_section", "results_table", "summarize", "write_report"]
