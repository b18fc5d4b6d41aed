"""What an evaluation leaves behind: text, JSON files, figures and report.html."""
