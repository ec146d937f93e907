"""A report in each of its forms: a page, a terminal text, a JSON object."""
