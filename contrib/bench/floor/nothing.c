// nothing: what the exec of a static program costs.
int main(void) { return 0; }
