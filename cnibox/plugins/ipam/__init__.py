"""Plugins that give addresses to other plugins."""
