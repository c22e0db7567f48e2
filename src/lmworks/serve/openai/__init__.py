"""OpenAI's HTTP API over a `Service`: what its official clients speak, and nothing that is silently ignored."""
