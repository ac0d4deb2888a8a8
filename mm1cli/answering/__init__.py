"""What is asked and answered: prompt, context, generation, abstention, the answer."""
