"""What exists because there is a book: reports, kept results, parameters, the command, figures."""
