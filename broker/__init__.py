"""Kafka: consume, produce, topics from topics.yaml; the aiokafka adapters and their in-memory twin."""
