"""Where to cut: a machine's measured costs, and what each placement takes over a link."""
