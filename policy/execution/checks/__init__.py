"""What must hold before a plan is signed: guards, the vault's rules, price feeds."""
