"""The application for the Serverless Application Repository (SAR): its template, made, packaged and checked."""
