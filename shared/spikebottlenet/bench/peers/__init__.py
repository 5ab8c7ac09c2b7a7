"""What a user would pick instead: the un-cut network behind other servers, as processes."""
