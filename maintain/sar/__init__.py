"""Generates, packages and checks the template for the Serverless Application Repository (SAR)."""
