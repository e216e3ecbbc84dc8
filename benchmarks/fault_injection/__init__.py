"""How the fault campaign kills, damages and compares."""
