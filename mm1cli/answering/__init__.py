"""What is asked and written: prompt, context, generation, abstention, the answer."""
