"""Pages, plots and tables; nothing is computed here that a record does not hold."""
