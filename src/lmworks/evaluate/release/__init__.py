"""Grounds of a release besides metrics: votes of people, and the record of who gave a version which label."""
