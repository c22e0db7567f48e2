"""From what is known of documents to what becomes of them: policy, decision, ledger, report."""
