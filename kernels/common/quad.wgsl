// What a product's operands and tiles consist of: four neighbouring elements.
alias Element = f32;
alias Quad = vec4f;
