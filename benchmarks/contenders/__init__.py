"""What the benchmarks compare: each library in a process of its own, of which one computes at a time."""
