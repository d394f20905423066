"""What runs a project for months: signs of life, health checks, services, containers."""
