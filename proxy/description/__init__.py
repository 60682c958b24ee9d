"""What the server offers, in OpenAPI 3.1: GET /openapi.json. Tables, and how they become one document."""
