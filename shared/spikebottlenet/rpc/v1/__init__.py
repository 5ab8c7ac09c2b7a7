"""Stubs generated from proto/ by `make stubs`; a test holds them current."""
