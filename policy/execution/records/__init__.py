"""Write-ahead journal, audit chain, and how both are stored."""
