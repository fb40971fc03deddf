use funicular::prelude::*;

struct Greeter;

pub fn writes() -> Function {
    Function::offloadable(Greeter)
}

pub fn reads() -> Function {
    Function::read_only(Greeter)
}

pub fn propagates() -> Function {
    Function::routes(Greeter).on_propagate("not a function").into()
}
