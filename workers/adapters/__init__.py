"""Agents of other frameworks as agents of ours: one file a framework, and nothing else imports it."""
