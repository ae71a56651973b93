"""What is on the report page, section by section; `analysis/report_page.py` puts them together."""
