"""Recipes as data, validated."""
