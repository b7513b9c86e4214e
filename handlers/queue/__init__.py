"""The queue on Google Pub/Sub: publish updates, verify the pushes of a subscription, and decide on their outcome."""
