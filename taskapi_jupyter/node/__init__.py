"""What runs on a cluster's node, for every engine that sends jobs away. Standard library only."""
