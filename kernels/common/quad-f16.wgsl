// What a product's operands and tiles consist of, where they are f16 and the device has shader-f16; sums are f32 all the same.
alias Element = f16;
alias Quad = vec4<f16>;
