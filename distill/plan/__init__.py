"""What a recipe costs: counted and calibrated before it runs, audited after."""
