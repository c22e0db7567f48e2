"""Card, funnel and answers about single documents, from the ledger and the attributes."""
