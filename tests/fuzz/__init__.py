"""Coverage-guided fuzzing of what strangers' bytes reach; see docs/fuzzing.md."""
