"""What people read: terminal tables, charts, the report page, artifacts."""
