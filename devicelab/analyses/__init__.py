"""From stored runs to findings: one module a question."""
