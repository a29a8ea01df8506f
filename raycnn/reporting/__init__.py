"""A run directory becomes report.html: `results` reads it, `figures` and `samples` draw, `page` writes."""
