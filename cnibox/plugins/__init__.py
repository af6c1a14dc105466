"""The plugins: one page each, where the CNI specification and Linux meet."""
