"""A messy mixture of documents whose defects are known, because they were planted: its builders, and the scoring."""
