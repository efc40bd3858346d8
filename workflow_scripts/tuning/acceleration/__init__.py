"""What makes a step fast or small without changing its result beyond rounding.

`accelerate.accelerate` applies what changes a model's modules. Attention (`plain_attention`), CUDA graphs
(`recording`), the embedding rows that training changes (`embedding.TouchedEmbedding`) and the imports (`lean`) are
called where they are needed. The measurements are in docs/performance.md.
"""
