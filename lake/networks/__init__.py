"""Networks as checked-in rows: tokens, price feeds, pools and contracts, each with the public sources that give it."""
