"""What answers the routes, which ``routes`` lists."""
