"""Wire formats: JSON ↔ messages of the link. Pure: no sockets, no clock but the one that is passed in."""
