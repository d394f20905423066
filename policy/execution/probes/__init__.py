"""What is proven about tokens, pools and feeds by asking the chain: before the first plan, and before every one."""
