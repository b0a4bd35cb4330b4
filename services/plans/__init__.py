"""What the CLIs say of their subscriptions: how much of each window is used, and when it begins anew."""
