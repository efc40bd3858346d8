"""The sections of the page. Each module exports `section(report)`, None if there is nothing to show."""
