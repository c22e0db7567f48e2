"""What a release is decided by besides metrics: votes of people, and the record of who gave a version which label."""
