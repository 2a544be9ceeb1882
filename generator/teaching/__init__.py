"""How the reader and the writer learn. With torch; what comes out is served without it."""
