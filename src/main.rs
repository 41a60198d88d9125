//! argv to `cli`, its result to the exit code; nothing else.

fn main() -> std::process::ExitCode {
    vitald::cli::main()
}
